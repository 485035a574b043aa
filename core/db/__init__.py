"""Records database: engine and transactions, migrations, audit, encrypted fields."""
