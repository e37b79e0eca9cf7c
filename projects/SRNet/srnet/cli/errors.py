"""Errors as one line: what is the user's to mend, told without a traceback."""

import ast
import builtins
import importlib
import os
import re
import sys
from collections.abc import Callable

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended

# What this project and Detectron2 raise for input that is missing, broken or contradictory.
# RuntimeError is what loading a checkpoint raises; it may also come from PyTorch.
# ModuleNotFoundError is what an extra that is not installed raises.
EXPECTED = (OSError, ValueError, FloatingPointError, RuntimeError, ModuleNotFoundError)
# Of KeyError and AssertionError, only what reading a config and the registries raise.
OF_CONFIG = re.compile(
    r"there is no key|Override list has odd length|No object named|is not registered"
)
# Processes of a training and workers of a loader hand their traceback to their parent as text.
TRACEBACK = "Traceback (most recent call last)"
OF_CHILD = re.compile(
    r"^(?:(?P<module>(srnet|torch)[\w.]*)\.)?(?P<type>\w+): (?P<text>.*)", re.MULTILINE | re.DOTALL
)


def report(program: str, run: Callable[[], object], *, traceback: bool = False) -> int:
    """Run a command and tell expected errors in one line.

    Args:
        program: the name that the line starts with.
        run: the command.
        traceback: raise errors with their traceback.

    Returns:
        The exit status: 0, 1 after an error, 130 after Ctrl-C or when the reader of a pipe left.

    Raises:
        Exception: one that is no expected error, or any with `traceback`.
    """
    try:
        try:
            run()
        finally:
            sys.stdout.flush()  # here, so that the error of a closed pipe is met below
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Exception as error:
        text = None if traceback else explain(error)
        if text is None:
            raise
        # A ValueError may have a finding on each line.
        lines = text.splitlines() if isinstance(error, ValueError) else [text]
        text = "\n".join(" ".join(line.split()) for line in lines if line.strip())
        print(f"{program}: error: {text}", file=sys.stderr)
        return 1


def explain(error: Exception) -> str | None:
    """The message of an expected error; None for any other error."""
    # A KeyError prints its message in quotes.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if TRACEBACK in text:
        return _explain_child(text)
    return _explain(type(error), text) or (repr(error) if isinstance(error, EXPECTED) else None)


def _explain(kind: type[Exception], text: str) -> str | None:
    """The message of an error of a kind with a text; None where it is not expected or empty."""
    if issubclass(kind, KeyError | AssertionError):
        return text if OF_CONFIG.search(text) else None
    if issubclass(kind, RuntimeError):
        return f"{text} (--traceback shows where)"
    return text if issubclass(kind, EXPECTED) else None


def _explain_child(text: str) -> str | None:
    """The message of the error that ended a child process, from the traceback it left."""
    last = list(OF_CHILD.finditer(text.rpartition(TRACEBACK)[2]))
    if not last:
        return None
    module = importlib.import_module(last[0]["module"]) if last[0]["module"] else builtins
    kind, message = getattr(module, last[0]["type"], None), last[0]["text"].strip()
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return None
    if issubclass(kind, KeyError):
        message = str(ast.literal_eval(message))
    return _explain(kind, message)
