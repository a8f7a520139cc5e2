"""What a plugin in Python needs, whatever its kind. Nothing in here has to be changed.

A plugin is one class in `plugin.py`, named like its kind (`Ranker`, `MetaJudge` …) and derived from `Plugin`. The host
calls its methods, one per function of the kind's interface in `wit/`, with the records of `wit/types.wit` as
dataclasses. An exception is a fault of the plugin: its traceback goes to the host's log and the call fails with it.
Whatever a method finds wrong with what it is given, it says with `raise refusal(…)`.
"""

import functools
import json
import linecache
import sys

from componentize_py_types import Err, Ok
from wit_world.imports import log, types

__all__ = ["Err", "Ok", "Plugin", "bad_option", "refusal", "say", "types"]


def say(line, level="info"):
    """Writes a line to the host's log; levels are error, warn, info and debug."""
    log.write(log.Level[level.upper()], str(line))


def refusal(message, item=None):
    """What to raise when a call cannot be answered. `item` is the index in the batch of what is wrong."""
    return Err(types.PluginError(message, item))


def bad_option(key, message):
    """What to raise in `check` when an option makes no sense."""
    return Err(types.OptionError(key, message))


class Plugin:
    """The part of a plugin that is the same for all kinds."""

    NAME = ""
    VERSION = "0.1.0"
    SUMMARY = ""
    # Option by name, each a JSON schema with at least `type`, `default` and `description`.
    OPTIONS = {}
    # What the options are, once the plugin is configured.
    options = {}

    def __init_subclass__(cls):
        # Read now, while the component is built: there are no files when it runs.
        linecache.getlines(sys.modules[cls.__module__].__file__)
        for name, call in list(vars(cls).items()):
            if callable(call) and not name.startswith("_"):
                setattr(cls, name, _logged(call))

    def check(self):
        """Refuses options that the schema cannot; `self.options` holds all of them."""

    def describe(self):
        kind = {"MetaJudge": "META_JUDGE"}.get(type(self).__name__, type(self).__name__.upper())
        schema = {"type": "object", "properties": self.OPTIONS, "additionalProperties": False}
        return types.Description(types.Kind[kind], self.NAME, self.VERSION, self.SUMMARY, json.dumps(schema))

    def configure(self, options):
        # Kept by the class: every call is made on an object of its own.
        type(self).options = json.loads(options)
        self.check()


def _logged(call):
    @functools.wraps(call)
    def logged(*arguments):
        try:
            return call(*arguments)
        except Err:
            raise
        except BaseException as error:
            for line in _traceback(error):
                say(line, "error")
            raise

    return logged


def _traceback(error):
    """Like Python's own, which would look for the files."""
    lines = ["Traceback (most recent call last):"]
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {step.tb_lineno}, in {code.co_name}')
        if code.co_filename in linecache.cache:
            lines.append(f"    {linecache.getline(code.co_filename, step.tb_lineno).strip()}")
        step = step.tb_next
    return [*lines, f"{type(error).__name__}: {error}"]
