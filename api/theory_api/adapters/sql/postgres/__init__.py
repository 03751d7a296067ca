"""PostgreSQL through asyncpg: the writer's side, for many processes on one database."""
