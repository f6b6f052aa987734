"""Are the application's migrations applied, and if not, apply them: with Alembic, or with any command.

`prisma` and `django` may be declared in the manifest and are not in `SUPPORTED` yet: their caller skips them and says
so.
"""

from flawless.adapters.migrations.alembic import Alembic
from flawless.adapters.migrations.command import MigrationCommand
from flawless.adapters.migrations.migrator import Migrator, Surroundings
from flawless.adapters.migrations.refusal import refusal
from flawless.core.settings import MigrationTool

SUPPORTED = frozenset({MigrationTool.ALEMBIC, MigrationTool.COMMAND, MigrationTool.NONE})

__all__ = ["SUPPORTED", "Alembic", "MigrationCommand", "Migrator", "Surroundings", "refusal"]
