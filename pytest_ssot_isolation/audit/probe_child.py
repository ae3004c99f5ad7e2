"""Runs in a fresh interpreter: imports what it is told to, and prints what came of it as one literal."""

# Only what every interpreter has loaded by itself: each further import here would be one less for the
# module under test, which would then seem quicker and more self-reliant than it is.
import sys
import time

NEEDS = "needs a package that is not installed: "


def _import(name: str) -> str:
    """Import one module; the error in words, or nothing."""
    try:
        __import__(name)
    except BaseException as error:  # a module may even call sys.exit()
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        place = ""
        if last is not None:
            place = f" ({last.tb_frame.f_code.co_filename.replace(chr(92), '/').rpartition('/')[2]}:{last.tb_lineno})"
        return _missing(error) or f"{type(error).__name__}: {error}{place}"
    return ""


def _missing(error: BaseException) -> str:
    """That a package is not installed, in words a reader can tell from other errors; or nothing."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError) and cause.name and "." not in cause.name:
            return f"{NEEDS}{cause.name}"
        cause = cause.__cause__ or cause.__context__
    return ""


def _files(tops: tuple[str, ...]) -> dict[str, str]:
    return {
        name: path
        for name, module in list(sys.modules.items())
        if name.startswith(tops)
        and name.partition(".")[0] in tops
        and isinstance(path := getattr(module, "__file__", None), str)
    }


def _twice(folders: tuple[str, ...]) -> dict[str, list[str]]:
    """Files from which more than one module object was loaded, with the names of those."""
    loaded: dict[str, dict[int, str]] = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path.startswith(folders) and name != "__main__":
            loaded.setdefault(path, {}).setdefault(id(module), name)
    return {path: sorted(names.values()) for path, names in loaded.items() if len(names) > 1}


def _old(old: list[str], new: list[str]) -> dict[str, object]:
    """Take an object by its deprecated place and by its canonical one."""
    import warnings

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = _import(old[0])
        found = None if error else getattr(sys.modules[old[0]], old[1], None)
    warned = [one.category.__name__ for one in caught if issubclass(one.category, DeprecationWarning)]
    error = error or _import(new[0])
    same = not error and found is getattr(sys.modules[new[0]], new[1], None)
    return {"error": error, "found": found is not None, "warned": bool(warned), "same": same}


def main() -> None:
    """Read the orders, carry them out, and print the result behind a mark.

    Orders come as five lines of words parted by tabs: what to do, folders for ``sys.path``,
    modules (or old and new place), top-level packages, folders of the audited packages.
    """
    lines = [tuple(filter(None, line.rstrip("\n").split("\t"))) for line in sys.stdin]
    (do,), path, names, tops, folders = lines
    sys.path[:0] = path
    if do == "old":
        old, new = names
        result: dict[str, object] = _old(old.split(":"), new.split(":"))
    else:
        started = time.perf_counter()
        errors = {name: error for name in names if (error := _import(name))}
        seconds = time.perf_counter() - started
        result = {"seconds": seconds, "errors": errors, "files": _files(tops), "twice": _twice(folders)}
    sys.stdout.write("\n\x1essot" + repr(result) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
    import os

    # A module may have started threads; nobody waits for them.
    os._exit(0)
