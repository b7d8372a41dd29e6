"""Markdown to safe HTML. Answers may hold a model's words: raw HTML is text, and what is left is sanitized."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import nh3
from django.utils.html import conditional_escape
from markdown_it import MarkdownIt
from markdown_it.token import Token

from conversations.fragments.characters import shown

#: Images are links: a picture from elsewhere would tell its host who reads the answer.
_PARSER = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")

_CLEANER = nh3.Cleaner(
    tags={
        *("p", "strong", "em", "code", "pre", "ul", "ol", "li", "a", "h3", "h4", "h5", "h6", "blockquote", "hr", "br"),
        *("div", "table", "thead", "tbody", "tr", "th", "td", "span"),
    },
    attributes={"a": {"href", "title"}, "ol": {"start"}, "div": {"tabindex"}, "span": {"title", "data-code"}},
    allowed_classes={
        "span": {"char"},
        "p": {"fact"},
        "div": {"scroll"},
        "pre": {"code"},
        "table": {"grid"},
        "th": {"number"},
        "td": {"number"},
    },
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener noreferrer",
)


def _scrolled_table(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return '<div class="scroll" tabindex="0"><table class="grid">' if tokens[index].nesting == 1 else "</table></div>"


def _scrolled_code(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return f'<div class="scroll" tabindex="0"><pre class="code">{_code(_, tokens, index)}</pre></div>'


def _text(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return conditional_escape(shown(tokens[index].content))


def _code(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return f"<code>{_text(_, tokens, index)}</code>"


for _kind in ("table_open", "table_close"):
    _PARSER.add_render_rule(_kind, _scrolled_table)
for _kind in ("fence", "code_block"):
    _PARSER.add_render_rule(_kind, _scrolled_code)
_PARSER.add_render_rule("text", _text)
_PARSER.add_render_rule("code_inline", _code)


def parse(text: str, *, is_start: bool = False) -> list[Token]:
    """The block tokens of the text. `is_start`: the answer begins here, its first sentence may be the fact."""
    tokens = _PARSER.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            # The page's own headings end at h2.
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
        elif token.type in ("th_open", "td_open"):
            token.attrs = {"class": "number"} if token.attrs.get("style") == "text-align:right" else {}
    if is_start and _opens_with_strong(tokens):
        tokens[0].attrSet("class", "fact")
    return tokens


def _opens_with_strong(tokens: Sequence[Token]) -> bool:
    if not tokens or tokens[0].type != "paragraph_open":
        return False
    words = (child for child in tokens[1].children or () if child.type != "text" or child.content)
    return getattr(next(words, None), "type", "") == "strong_open"


def html_of(tokens: Sequence[Token]) -> str:
    return _CLEANER.clean(_PARSER.renderer.render(tokens, _PARSER.options, {}))


def render(text: str, *, is_start: bool = False) -> str:
    return html_of(parse(text, is_start=is_start))


def frozen_length(text: str) -> int:
    """Code points before the open last block: up to the last blank line that is outside a fence.

    What comes before can't change by what is written later, but for loose lists and link definitions, which the final
    render of the whole text puts right.
    """
    fence, frozen, position = "", 0, 0
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        position += len(line)
        bare = line.strip()
        if fence:
            if bare.startswith(fence) and not bare.strip(fence[0]):
                fence = ""
        elif bare.startswith(("```", "~~~")):
            fence = bare[: len(bare) - len(bare.lstrip(bare[0]))]
        elif not bare and line.endswith("\n"):
            frozen = position
    return frozen
