"""The assets, and what has to change with them: the stamp that tells caches, and the names of the attributes. And the
files that people upload to import them.

Every way of writing assets (`save`, `delete`; the queryset's `bulk_create`, `overwrite`, `bulk_update`, `update`,
`delete`) keeps the derived columns right and renews the stamp in the same transaction.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import connections, models, transaction
from django.db.models.constants import OnConflict
from django.db.models.functions import Lower
from django.db.models.sql import InsertQuery
from django.utils import timezone

from inventory.values import address_key

#: An import that has written nothing for so long doesn't count as running.
IMPORT_PAUSE = timedelta(seconds=10)
#: Sample data has this source; the page says so.
SAMPLE = "sample"


def tag_lines(tags: Collection[str]) -> str:
    """Each tag on its own line, with a line break before the first and after the last: "has this tag" is `contains`."""
    return "\n{}\n".format("\n".join(tags)) if tags else ""


class InventoryRevision(models.Model):
    """One row with a stamp that every change of assets renews. What a process remembers of them is keyed on it."""

    THE_ROW = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=THE_ROW, editable=False)
    #: Random, not counted: two databases (or a restored one) never have a stamp in common.
    stamp = models.UUIDField(default=uuid.uuid4)
    changed_at = models.DateTimeField(default=timezone.now)
    #: An import is running, or died, until then. Null: none is.
    importing_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.stamp)

    @classmethod
    def current(cls) -> uuid.UUID | None:
        """None while there has never been an asset."""
        return cls.objects.filter(pk=cls.THE_ROW).values_list("stamp", flat=True).first()

    @classmethod
    def state(cls) -> tuple[uuid.UUID | None, bool]:
        """The current stamp, and whether an import is running."""
        row = cls.objects.filter(pk=cls.THE_ROW).values_list("stamp", "importing_until").first()
        return (row[0], row[1] is not None and row[1] > timezone.now()) if row else (None, False)

    @classmethod
    def lock(cls) -> uuid.UUID | None:
        """The current stamp; writers of assets wait until the caller's transaction has ended."""
        rows = cls.objects.select_for_update().filter(pk=cls.THE_ROW)
        return rows.values_list("stamp", flat=True).first()

    @classmethod
    def renew(cls, **fields: Any) -> None:
        """Call it in the transaction of the change. It also locks the row: writers of assets wait for each other."""
        changed = cls.objects.filter(pk=cls.THE_ROW).update(stamp=uuid.uuid4(), changed_at=timezone.now(), **fields)
        if not changed:
            cls.objects.get_or_create(pk=cls.THE_ROW, defaults=fields)

    @classmethod
    def renew_for_import(cls) -> None:
        """As `renew`: more is going to change soon."""
        cls.renew(importing_until=timezone.now() + IMPORT_PAUSE)

    @classmethod
    def end_import(cls) -> None:
        """Does nothing when the import has written nothing."""
        if cls.objects.filter(pk=cls.THE_ROW, importing_until__isnull=False).exists():
            cls.renew(importing_until=None)


class AttributeName(models.Model):
    """A name that occurs in some asset's `attributes`. Kept, because finding the names out would read every asset."""

    name = models.TextField(unique=True)

    def __str__(self) -> str:
        return self.name

    @classmethod
    def add(cls, names: Collection[str]) -> None:
        known = set(cls.objects.filter(name__in=names).values_list("name", flat=True))
        new = [AttributeName(name=name) for name in sorted(set(names) - known)]
        AttributeName.objects.bulk_create(new, ignore_conflicts=True)

    @classmethod
    def prune(cls, names: Iterable[str] | None = None) -> None:
        """Forgets the names (default: all) that no asset has any more.

        Looking for them may read every asset: outside a transaction it is done before anything is locked, and again
        under the lock only if assets have changed meanwhile.
        """
        revision = InventoryRevision.current()
        unused = Asset.objects.without(cls.objects.values_list("name", flat=True) if names is None else names)
        if not unused:
            return
        with transaction.atomic():
            if InventoryRevision.lock() != revision:
                unused = Asset.objects.without(unused)
            cls.objects.filter(name__in=unused).delete()
            InventoryRevision.renew()


class AttributeText(models.Func):
    """The text of one attribute, null where an asset has none.

    Not Django's key transform: that takes a name of digits for a list index, and SQLite's paths can't hold a quote.
    """

    function = "JSONB_EXTRACT_PATH_TEXT"
    output_field = models.TextField()

    def __init__(self, name: str, **extra: Any) -> None:
        super().__init__(models.F("attributes"), models.Value(name), **extra)

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template = "(SELECT value FROM JSON_EACH(%(expressions)s))"
        return self.as_sql(compiler, connection, template=template, arg_joiner=") WHERE key = (", **extra)


class AssetQuerySet(models.QuerySet["Asset"]):
    def sample(self) -> Self:
        return self.filter(source=SAMPLE)

    def without(self, names: Iterable[str]) -> set[str]:
        """Which of the names no asset has as an attribute: one pass over the assets, whatever the number of names."""
        unused = set(names)
        for attributes in self.values_list("attributes", flat=True).iterator() if unused else ():
            unused.difference_update(attributes)
            if not unused:
                break
        return unused

    def bulk_create(self, objs: Iterable[Asset], *args: Any, **kwargs: Any) -> list[Asset]:
        assets = list(objs)
        with transaction.atomic(using=self.db):
            for asset in assets:
                asset.derive()
            AttributeName.add({name for asset in assets for name in asset.attributes})
            InventoryRevision.renew()
            return super().bulk_create(assets, *args, **kwargs)

    def overwrite(self, assets: Iterable[Asset], fields: Collection[str]) -> None:
        """Writes them whole; of one whose id is there already, these fields."""
        if connections[self.db].vendor == "sqlite":
            self._overwrite_by_one_statement(list(assets), fields)
        else:
            self.bulk_create(assets, update_conflicts=True, unique_fields=["id"], update_fields=fields)

    def _overwrite_by_one_statement(self, assets: Sequence[Asset], names: Collection[str]) -> None:
        """As `bulk_create`, in half its time: on SQLite that makes an SQL text with a place for each value."""
        with transaction.atomic(using=self.db):
            for asset in assets:
                asset.derive()
            AttributeName.add({name for asset in assets for name in asset.attributes})
            InventoryRevision.renew()
            if assets:
                self._execute_for_each(assets, names)

    def _execute_for_each(self, assets: Sequence[Asset], names: Collection[str]) -> None:
        connection = connections[self.db]
        fields = self.model._meta.concrete_fields
        query = InsertQuery(
            self.model, on_conflict=OnConflict.UPDATE, unique_fields=[self.model._meta.pk],
            update_fields=[field for field in fields if field.name in names],
        )  # fmt: skip
        query.insert_values(fields, [*assets[:1]])
        ((sql, _),) = query.get_compiler(connection=connection).as_sql()
        # Texts are what they are.
        are_texts = [isinstance(field, models.CharField | models.TextField) for field in fields]
        told = list(zip(fields, are_texts, strict=True))
        rows = [
            [
                getattr(asset, field.attname)
                if is_text
                else field.get_db_prep_save(getattr(asset, field.attname), connection)
                for field, is_text in told
            ]
            for asset in assets
        ]
        with connection.cursor() as cursor:
            cursor.executemany(sql, rows)

    def bulk_update(self, objs: Iterable[Asset], fields: Iterable[str], batch_size: int | None = None) -> int:
        assets = list(objs)
        for asset in assets:
            asset.derive()
        with transaction.atomic(using=self.db):
            AttributeName.add({name for asset in assets for name in asset.attributes})
            return super().bulk_update(assets, {*fields, *Asset.DERIVED}, batch_size)

    def update(self, **kwargs: Any) -> int:
        if "ip_address" in kwargs and "ip_key" not in kwargs:
            kwargs["ip_key"] = address_key(kwargs["ip_address"])
        if "tags" in kwargs and "tag_text" not in kwargs:
            kwargs["tag_text"] = tag_lines(kwargs["tags"])
        with transaction.atomic(using=self.db):
            InventoryRevision.renew()
            return super().update(**kwargs)

    def delete(self, *, prune: bool = True) -> tuple[int, dict[str, int]]:
        """Without `prune` the caller calls `AttributeName.prune`, once for many deletions."""
        with transaction.atomic(using=self.db):
            InventoryRevision.renew()
            deleted = super().delete()
            if prune:
                AttributeName.prune()
            return deleted


class Asset(models.Model):
    """One asset. A text that is not known is blank, anything else null.

    `source`, `source_id` and `row_key` say where it came from and how the same source's next file recognises it.
    """

    #: Columns made from others, so that any database can search them; never set by hand.
    DERIVED = ("ip_key", "tag_text")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.TextField(blank=True)
    fqdn = models.TextField(blank=True)
    #: Canonical text of an IPv4 or IPv6 address, or blank; no database's own type, which another has not.
    ip_address = models.TextField(blank=True)
    mac_address = models.TextField(blank=True)
    asset_type = models.TextField(blank=True)
    status = models.TextField(blank=True)
    environment = models.TextField(blank=True)
    criticality = models.TextField(blank=True)
    os = models.TextField(blank=True)
    os_version = models.TextField(blank=True)
    manufacturer = models.TextField(blank=True)
    model = models.TextField(blank=True)
    serial_number = models.TextField(blank=True)
    asset_tag = models.TextField(blank=True)
    site = models.TextField(blank=True)
    location = models.TextField(blank=True)
    rack = models.TextField(blank=True)
    role = models.TextField(blank=True)
    service = models.TextField(blank=True)
    owner = models.TextField(blank=True)
    support_contact = models.TextField(blank=True)
    tags = models.JSONField(default=list, blank=True)
    cpu_cores = models.FloatField(null=True, blank=True)
    memory_gb = models.FloatField(null=True, blank=True)
    disk_gb = models.FloatField(null=True, blank=True)
    purchased_on = models.DateField(null=True, blank=True)
    warranty_expires_on = models.DateField(null=True, blank=True)
    certificate_expires_on = models.DateField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    notes = models.TextField(blank=True)
    #: Every other column of the file: its name -> its text, never blank.
    attributes = models.JSONField(default=dict, blank=True)

    source = models.TextField(blank=True)
    #: The id that the source itself gave the asset.
    source_id = models.TextField(blank=True)
    #: Hash of the file's row, for rows that have nothing else to be recognised by.
    row_key = models.TextField(blank=True)
    #: The import that wrote it last; one import takes an asset once.
    import_id = models.UUIDField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    #: `address_key` of the address.
    ip_key = models.CharField(max_length=33, blank=True, editable=False, db_index=True)
    #: `tag_lines` of the tags.
    tag_text = models.TextField(blank=True, editable=False)

    objects = AssetQuerySet.as_manager()

    class Meta:
        permissions = (("import_assets", "Can import assets"),)
        indexes = (
            models.Index(Lower("name"), name="asset_by_name"),
            models.Index(Lower("fqdn"), name="asset_by_fqdn"),
            models.Index(Lower("ip_address"), name="asset_by_ip_address"),
            models.Index(Lower("mac_address"), name="asset_by_mac_address"),
            models.Index(Lower("serial_number"), name="asset_by_serial_number"),
            models.Index(Lower("asset_tag"), name="asset_by_asset_tag"),
            models.Index(fields=("source", "row_key"), name="asset_by_row_key"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("source", "source_id"), condition=~models.Q(source_id=""), name="one_asset_per_source_id"
            ),
        )

    def __str__(self) -> str:
        return self.name or self.serial_number or self.asset_tag or str(self.id)

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.derive()
        if kwargs.get("update_fields") is not None:
            kwargs["update_fields"] = {*kwargs["update_fields"], *self.DERIVED}
        with transaction.atomic(using=kwargs.get("using")):
            AttributeName.add(self.attributes)
            InventoryRevision.renew()
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic(using=kwargs.get("using")):
            InventoryRevision.renew()
            deleted = super().delete(*args, **kwargs)
            AttributeName.prune(self.attributes)
            return deleted

    def derive(self) -> None:
        """Sets the derived columns. Raises ValueError when `ip_address` is none."""
        self.ip_key = address_key(self.ip_address)
        self.tag_text = tag_lines(self.tags)


class AssetUpload(models.Model):
    """A file that its user uploaded, what was found in it, and what was done with it last.

    Written by `inventory.uploads` alone. The rows live as long as their files; what was imported is in the log.
    """

    class Work(models.TextChoices):
        READ = "read"
        DRY_RUN = "dry run"
        IMPORT = "import"

    class Status(models.TextChoices):
        WORKING = "working"
        DONE = "done"
        #: `message` says why.
        FAILED = "failed"
        INTERRUPTED = "interrupted"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    #: As the user's machine calls it.
    name = models.TextField()
    #: In the storage `uploads`; blank when the file has been imported and is gone.
    path = models.TextField(blank=True)
    n_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64, blank=True)
    #: As given; once the file was read, the one that it will be imported as.
    source = models.TextField(blank=True)
    delete_missing = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    work = models.CharField(max_length=7, choices=Work.choices, default=Work.READ)
    status = models.CharField(max_length=11, choices=Status.choices, default=Status.INTERRUPTED)
    #: Of one beginning of the work: who has another one has lost it.
    work_id = models.UUIDField(null=True)
    #: The process that works is alive, or was until then.
    working_until = models.DateTimeField(null=True)
    n_done = models.PositiveBigIntegerField(default=0)
    n_all = models.PositiveBigIntegerField(default=0)
    message = models.TextField(blank=True)
    #: `inventory.upload_work.Preview` once the file was read, else empty.
    preview = models.JSONField(default=dict)
    #: `inventory.upload_work.Result` of the last dry run or import, else empty.
    result = models.JSONField(default=dict)
    #: In the storage: the result's problems, as CSV; blank when there are none.
    problems_path = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.name

    @property
    def state(self) -> str:
        """The status; `interrupted` when the process that worked is gone."""
        is_working = self.status == self.Status.WORKING
        is_gone = self.working_until is None or self.working_until < timezone.now()
        return self.Status.INTERRUPTED if is_working and is_gone else self.status
