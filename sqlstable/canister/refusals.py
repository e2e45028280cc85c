"""Why a statement failed, in the same words whichever engine runs it."""

from sqlstable.database.values import explain_foreign, find_fault
from sqlstable.engine.statements import Params, Statements
from sqlstable.errors import MessageError, Trap


def explained(
    statements: Statements, error: Exception, sql: str, params: Params, *, place: str = ""
) -> Exception:
    """Return the error that says best why a statement failed; the same on all engines."""
    if isinstance(error, Trap | MessageError):
        return error
    fault = find_fault(sql, params, place=place) or explain_foreign(error, sql, params)
    return fault or statements.explained(error, sql)
