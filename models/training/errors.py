"""What the caller of a training can change."""


class TrainingError(ValueError):
    """The config, the data or the options are at fault; the message is fit to show."""
