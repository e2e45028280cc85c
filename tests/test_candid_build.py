"""The module of Candid's crates is what its sources give."""

import os
import shutil
import tomllib

import pytest

from sqlstable.candid import build_candid
from sqlstable.candid.candid_module import known_build, read_module
from sqlstable.errors import BuildError


@pytest.mark.slow
@pytest.mark.external
def test_building_again_gives_the_same_bytes():
    if os.environ.get("SQLSTABLE_REBUILD") != "1":
        pytest.skip("building takes minutes: set SQLSTABLE_REBUILD=1 to build and compare")
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not here: install Rust to build the module of Candid's crates")
    compiler = build_candid.compiler_version()
    if compiler != known_build().compiler:
        pytest.skip(f"the module was built by {known_build().compiler}, and {compiler} is here")
    assert build_candid.build() == read_module()


def test_a_missing_compiler_is_said_with_what_to_install(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildError, match="rustup target add wasm32-unknown-unknown"):
        build_candid.compiler_version()
    assert build_candid.main(["--check"]) == 1
    assert "error: rustc cannot be run" in capsys.readouterr().err


def test_another_compiler_is_not_compared(monkeypatch, capsys):
    monkeypatch.setattr(build_candid, "compiler_version", lambda: "rustc 1.0.0 (a 2015-05-15)")
    assert build_candid.main(["--check"]) == 1
    assert "bytes of different compilers differ" in capsys.readouterr().err


def test_no_place_of_this_machine_is_in_the_module():
    data = read_module()
    assert b"/root" not in data
    assert b"/home" not in data
    assert b"index.crates" not in data


def test_the_crates_that_are_named_are_those_that_are_compiled():
    lock = tomllib.loads((build_candid.SOURCES / "Cargo.lock").read_text(encoding="utf-8"))
    locked = {f"{crate['name']} v{crate['version']}" for crate in lock["package"]}
    text = (build_candid.SOURCES / "THIRD_PARTY.md").read_text(encoding="utf-8")
    named = {line[2:].partition(":")[0] for line in text.splitlines() if line.startswith("- ")}
    assert len(named) > 50
    assert named <= locked
