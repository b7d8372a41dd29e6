import json
from typing import Any

from django.db import migrations, models

from conversations import chain, statements

#: Rows read and numbered at a time.
_N = 5000


def number(apps: Any, schema_editor: Any) -> None:
    """Makes a chain of the entries that are there, the oldest first, and its end."""
    connection = schema_editor.connection
    entry = apps.get_model('conversations', 'AuditEntry')
    end = chain.End(seq=0, hash=chain.GENESIS)
    page = _first(connection, entry._meta.db_table)
    while page:
        numbered = []
        for _at, key, *facts in page:
            end = chain.End(seq=end.seq + 1, hash=chain.digest(end.hash, end.seq + 1, facts))
            numbered.append((key, end.seq, end.hash))
        _store(connection, entry._meta.db_table, numbered)
        page = _next(connection, entry._meta.db_table, page[-1][:2])
    row = entry(seq=0, hash=end.hash, action='ledger.end', object_type='ledger', outcome='ok')
    row.detail = json.loads(chain.detail_of(end, is_signed=True))
    row.save(force_insert=True)


def _first(connection: Any, table: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(f'{_select(connection, table)} ORDER BY at, id LIMIT {_N}')
        return list(cursor.fetchall())


def _next(connection: Any, table: str, last: Any) -> list[Any]:
    at, key = last
    with connection.cursor() as cursor:
        cursor.execute(
            f'{_select(connection, table)} WHERE at >= %s AND (at > %s OR id > %s) ORDER BY at, id LIMIT {_N}',
            [at, at, key],
        )
        return list(cursor.fetchall())


def _select(connection: Any, table: str) -> str:
    # As they are stored, and not as Python reads them.
    columns = 'CAST(at AS text), CAST(id AS text)' if connection.vendor == 'sqlite' else 'at, id'
    return f'SELECT {columns}, {statements.facts()} FROM {table}'  # noqa: S608  of names alone


def _store(connection: Any, table: str, numbered: list[Any]) -> None:
    """(id, number, hash) of each row."""
    with connection.cursor() as cursor:
        if connection.vendor == 'postgresql':
            cursor.execute(
                f'UPDATE {table} SET seq = new.seq, hash = new.hash'  # noqa: S608  of names alone
                ' FROM unnest(%s::uuid[], %s::bigint[], %s::text[]) AS new(id, seq, hash)'
                f' WHERE {table}.id = new.id',
                [list(column) for column in zip(*numbered, strict=True)],
            )
        else:
            cursor.executemany(
                f'UPDATE {table} SET seq = %s, hash = %s WHERE id = %s',  # noqa: S608  of names alone
                [(seq, hash_, key) for key, seq, hash_ in numbered],
            )


def forget(apps: Any, schema_editor: Any) -> None:
    """The end is no entry."""
    apps.get_model('conversations', 'AuditEntry').objects.filter(seq=0).delete()


class Migration(migrations.Migration):

    dependencies = [
        ('conversations', '0004_stopped_stages'),
    ]

    operations = [
        migrations.AddField(
            model_name='auditentry',
            name='seq',
            field=models.PositiveBigIntegerField(editable=False, null=True, verbose_name='number'),
        ),
        migrations.AddField(
            model_name='auditentry',
            name='hash',
            field=models.CharField(editable=False, max_length=64, null=True),
        ),
        migrations.RunPython(number, forget),
        migrations.AlterField(
            model_name='auditentry',
            name='hash',
            field=models.CharField(editable=False, max_length=64),
        ),
        migrations.AlterField(
            model_name='auditentry',
            name='seq',
            field=models.PositiveBigIntegerField(editable=False, unique=True, verbose_name='number'),
        ),
        migrations.AddConstraint(
            model_name='auditentry',
            constraint=models.CheckConstraint(condition=models.Q(('seq__lte', 9007199254740992)), name='a_number_of_the_ledger'),
        ),
    ]
