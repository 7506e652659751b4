"""The category of dbx's warnings, known at every layer."""


class DbxWarning(UserWarning):
    """What dbx warns of: ``warnings.filterwarnings("ignore", category=dbx.DbxWarning)`` silences it."""
