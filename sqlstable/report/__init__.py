"""From numbers to something to look at: tables, comparisons, JSON and CSV."""

from sqlstable.report.accesses import render_accesses_csv
from sqlstable.report.comparison import render_comparison
from sqlstable.report.document import render_comparison_json, render_json
from sqlstable.report.sheet import render_comparison_csv, render_csv
from sqlstable.report.table import render_table

__all__ = [
    "render_accesses_csv",
    "render_comparison",
    "render_comparison_csv",
    "render_comparison_json",
    "render_csv",
    "render_json",
    "render_table",
]
