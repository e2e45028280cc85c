"""Run the notebooks and keep what they show.

    python notebooks/refresh.py [NAME.ipynb …]

Without names all of them. What is kept is the same on every machine: no times, no paths, cells
numbered from the first. A test runs them, too, and compares.
"""

import sys
from pathlib import Path

import matplotlib.font_manager  # noqa: F401  builds its cache here, and says nothing in a cell
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
SECONDS_MAX = 120
"""What one cell may take before it counts as stuck."""

WIDGET = "application/vnd.jupyter.widget-view+json"

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebooks() -> list[Path]:
    """Return all notebooks, in the order in which they are read."""
    return sorted(FOLDER.glob("*.ipynb"))


def executed(path: Path) -> nbformat.NotebookNode:
    """Return a notebook as it is when it has run from its first cell to its last.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed that is not tagged to.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS_MAX,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute()
    return _bare(notebook)


def _bare(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return it without what belongs to one run, or to one machine."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = {key: it for key, it in cell.metadata.items() if key == "tags"}
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = {}
            # A widget lives in a kernel; the picture that goes with it stays.
            output.get("data", {}).pop(WIDGET, None)
        if "outputs" in cell:
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Join pieces of one stream, which arrive as they were flushed."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if output.output_type == "stream" and last is not None and last.get("name") == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def main() -> None:
    """Run the notebooks that are named, or all."""
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else notebooks():
        nbformat.write(executed(path), path)
        print(f"ran {path.name}")


if __name__ == "__main__":
    main()
