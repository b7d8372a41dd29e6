from __future__ import annotations

from conversations.pipeline import csv_blocks
from conversations.pipeline.tables import markdown_table


def test_a_block_is_found_with_its_place_and_rows() -> None:
    text = "Here:\r\n\r\n```csv\r\na,b\r\n1,2\r\n```\r\nafter"
    (block,) = csv_blocks.find(text)
    assert text[block.start : block.end] == "```csv\r\na,b\r\n1,2\r\n```\r\n"
    assert (block.header, block.rows) == (("a", "b"), (("1", "2"),))


def test_other_fences_and_quoted_fences_are_no_csv() -> None:
    assert csv_blocks.find("```python\na,b\n```\n\n    ```csv\n    a\n    ```\n") == []


def test_no_cell_of_a_ragged_block_is_lost() -> None:
    (block,) = csv_blocks.find("~~~csv\na\n1,2,3\n4\n~~~")
    assert block.header == ("a", "column_2", "column_3")
    assert block.rows == (("1", "2", "3"), ("4", None, None))


def test_an_unclosed_block_reaches_to_the_end() -> None:
    (block,) = csv_blocks.find("```csv\na\n1")
    assert (block.start, block.end) == (0, 10)


def test_markup_and_breaks_in_cells_stay_text_of_one_cell() -> None:
    lines = list(markdown_table(["a"], [["x|y\nz"], ["*b* <i> a_b _c_ `d` [e]"], [None], [3]]))
    assert lines[2:] == ["| x\\|y z |", r"| \*b\* \<i\> a_b \_c\_ \`d\` \[e\] |", "|  |", "| 3 |"]
