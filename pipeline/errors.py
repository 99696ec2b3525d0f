"""What can go wrong in a stage, apart from what `features` and `models` report."""


class PipelineError(Exception):
    """Base of everything that `pipeline` raises on purpose."""


class ConfigError(PipelineError):
    """A setting that is out of range, or a name that is not known."""


class PredictError(PipelineError):
    """Images given to predict that could not be read."""
