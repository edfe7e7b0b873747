"""The errors of a broken contract; each names the thing, what was found and how to mend it."""


class TagloomError(Exception):
    """Base of every error that a user can mend; the command line prints it and exits with 1."""


class ConfigError(TagloomError):
    """A setting, an option or a file that a setting names is not as it must be."""


class SchemaError(TagloomError):
    """A table or a list of stages lacks a column, or two parts write the same one."""


class BundleError(TagloomError):
    """A bundle cannot be read, was changed, or belongs to another vocabulary."""


class CorpusError(TagloomError):
    """Pictures or tags that go in cannot be read, or cannot be learned from."""


class BackboneError(TagloomError):
    """A backbone's weights cannot be had, or are not the ones that were asked for."""


class TrainingError(TagloomError):
    """A network cannot be trained on: a loss is no number, or a checkpoint is of another run."""
