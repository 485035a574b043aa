"""The records: engine, unit of work, migrations, audit, encrypted fields."""
