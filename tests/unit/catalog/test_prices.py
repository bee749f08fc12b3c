"""The user's price file: what it may say, and that a wrong one is refused by name."""

from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from gemma_operator.catalog import loader, prices
from gemma_operator.catalog.prices import Price
from gemma_operator.errors import InvalidCatalog

WHOLE = {
    "date": "2026-11-20",
    "source": "a list of a test",
    "currency": "USD",
    "pools": {"gke-nodepool/h100": "80.50", "l4": {"amount": "0.9", "currency": "EUR"}},
    "machineTypes": {"g2-standard-12": {"amount": "1.00", "spot": "0.40"}},
    "accelerators": {"nvidia-l4": "0.70"},
}


def test_amounts_are_decimals_in_the_files_currency_or_their_own():
    read = prices.parse("prices.yaml", WHOLE)
    assert (read.date, read.source) == ("2026-11-20", "a list of a test")
    assert read.pools == {
        "gke-nodepool/h100": Price(Decimal("80.50"), "USD"),
        "l4": Price(Decimal("0.9"), "EUR"),
    }
    machine = read.machine_types["g2-standard-12"]
    assert (machine.of(spot=False), machine.of(spot=True)) == (
        Price(Decimal("1.00"), "USD"),
        Price(Decimal("0.40"), "USD"),
    )
    assert read.accelerators["nvidia-l4"].of(spot=True) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"date": None}, "date is missing"),
        ({"date": "last week"}, "date must be the day"),
        ({"source": None}, "source is missing"),
        ({"source": " "}, "source must say"),
        ({"currency": None}, "no currency"),
        ({"accelerators": {"nvidia-l4": 0.7}}, "must be a mapping"),
        ({"accelerators": {"nvidia-l4": "0,70"}}, "decimal number"),
        ({"accelerators": {"nvidia-l4": "-1"}}, "decimal number"),
        ({"accelerators": {"nvidia-l4": {}}}, "neither amount nor spot"),
        ({"accelerators": {"nvidia-l4": {"amount": "1", "currency": "dollars"}}}, "no currency"),
        ({"pools": {"l4": {"amount": "1", "spot": "1"}}}, "unknown member 'spot'"),
        ({"machines": {}}, "unknown member 'machines'"),
    ],
)
def test_a_wrong_file_is_refused_by_name(change, says):
    document = {key: value for key, value in (WHOLE | change).items() if value is not None}
    with pytest.raises(InvalidCatalog, match=says):
        prices.parse("prices.yaml", document)


def test_the_packaged_catalog_knows_no_price():
    assert loader.packaged().prices == prices.NO_PRICES


def test_another_price_is_another_catalog(tmp_path):
    digests = {loader.packaged().digest}
    for amount in ("0.70", "0.71"):
        path = tmp_path / "prices.yaml"
        path.write_text(yaml.safe_dump(WHOLE | {"accelerators": {"nvidia-l4": amount}}))
        digests.add(loader.load(prices=path).digest)
    assert len(digests) == 3


@pytest.mark.parametrize("content", [None, "a: [", "- 1"])
def test_what_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "prices.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidCatalog, match=r"prices\.yaml"):
        loader.load(prices=path)


def test_the_sample_in_the_docs_is_a_price_file_with_its_day_and_source():
    _, read = prices.read(Path(__file__).parents[3] / "docs" / "sample-prices.yaml")
    assert read.date
    assert "karpenter-provider-aws" in read.source
    assert set(read.machine_types) <= set(loader.packaged().machine_types)
