"""Column type and constraint of a state: stored as the value of a `StrEnum`, read as its member."""

from enum import StrEnum

from sqlalchemy import CheckConstraint, Enum


def state_type(states: type[StrEnum], length: int) -> Enum:
    """Return the type of a column VARCHAR(`length`) that holds one of `states`."""
    return Enum(states, native_enum=False, length=length, values_callable=lambda enum: [state.value for state in enum])


def one_of(column: str, states: type[StrEnum]) -> CheckConstraint:
    """Return the constraint that a column holds one of `states`."""
    values = ", ".join(f"'{state}'" for state in states)
    return CheckConstraint(f"{column} IN ({values})", name=column)
