"""How the recorder's database came to be what it is, step by step; read by alembic."""
