"""Attributes of few values are understood by those values alone."""

from __future__ import annotations

import pytest

from inventory.models import Asset
from inventory.query import MAX_ATTRIBUTE_WORDS, vocabulary
from inventory.tools import AssetTable

pytestmark = pytest.mark.django_db


def test_the_values_of_an_attribute_with_few_of_them_are_words() -> None:
    Asset.objects.bulk_create(
        [Asset(name=f"vm-{n}", attributes={"Cluster": f"CL-{n % 2}", "Backed up": "yes"}) for n in range(4)]
    )
    words = vocabulary()
    assert words["Cluster"] == ["CL-0", "CL-1"]
    assert words["Backed up"] == []
    field = AssetTable().spec.field("Cluster")
    assert field is not None
    assert field.is_category


def test_an_attribute_of_many_values_is_asked_for_by_its_name_only() -> None:
    Asset.objects.bulk_create(
        [Asset(name=f"vm-{n}", attributes={"Ticket": f"T-{n}"}) for n in range(MAX_ATTRIBUTE_WORDS + 1)]
    )
    assert "Ticket" not in vocabulary()
    field = AssetTable().spec.field("Ticket")
    assert field is not None
    assert not field.is_category
