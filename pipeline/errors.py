"""What can go wrong in a stage, apart from what `features` and `models` report."""


class PipelineError(Exception):
    """Base of everything that `pipeline` raises on purpose."""


class ConfigError(PipelineError):
    """A setting that is out of range, or a name that is not known."""


class ResultError(PipelineError):
    """A comparison that is missing, damaged or of another format, or a head that is not in it."""


class PredictError(PipelineError):
    """Images given to predict that could not be read."""


class ServeError(PipelineError):
    """What keeps a classifier from being served: a port that is taken, a package that is absent."""


class SurroundingsError(PipelineError):
    """A folder that the machine ought to have, and has not."""


class WebError(PipelineError):
    """A page for browsers that cannot be made: no runtime for it, no model that it can run, or a folder of others."""


class ExportError(PipelineError):
    """A classifier that cannot be exported, or an export that does not say what the classifier says."""
