"""Nothing grows until nobody can read it."""

from tests.architecture.sources import PACKAGES, files, functions, place

_FILE_LINES = 600
_FUNCTION_LINES = 80


def test_no_source_file_is_longer_than_600_lines() -> None:
    """A source file has at most 600 lines: beyond that it holds more than one thing."""
    lengths = {
        place(path): path.read_bytes().count(b"\n") for path in files((*PACKAGES, "tests"), ".py", ".ts", ".tsx")
    }
    assert {name: length for name, length in lengths.items() if length > _FILE_LINES} == {}


def test_no_function_is_longer_than_80_lines() -> None:
    """A function has at most 80 lines, counted from its `def` to its end."""
    too_long = {
        f"{place(path, function.lineno)} {function.name}": function.end_lineno - function.lineno + 1
        for path in files((*PACKAGES, "tests"), ".py")
        for function in functions(path)
        if function.end_lineno is not None and function.end_lineno - function.lineno + 1 > _FUNCTION_LINES
    }
    assert too_long == {}
