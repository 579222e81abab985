"""Grammars as llama.cpp reads them."""

import pytest

from underlay.live.engines.grammar import ANYTHING, DIGIT, Chars, Ref, Repeat, gbnf

RULES = {
    "list": (("[", Ref("item"), Repeat(Ref("more")), "]"),),
    "more": ((",", Ref("item")),),
    "item": ((DIGIT,), ()),
    "unused": (("x",),),
}


def test_only_the_rules_that_are_needed_are_written():
    assert gbnf([(Ref("list"),), ("]",)], RULES) == (
        'root ::= r0 | "]"\n'
        'r0 ::= "[" r1 r2{0,} "]"\n'
        'r2 ::= "," r1\n'
        'r1 ::= [0-9] | ""\n'
    )  # fmt: skip


@pytest.mark.parametrize(
    ("symbol", "written"),
    [
        ('say "é"\\\n', '"say \\"é\\"\\\\\\n"'),
        ("\x01\u2028\U000e0001", '"\\x01\\u2028\\U000E0001"'),
        (Chars((("\x00", "\x1f"), ("-", "-"), ("]", "]"), ("^", "^")), outside=True), "[^\\x00-\\x1F\\x2D\\]\\^]"),
        (ANYTHING, "[\\x00-\\U0010FFFF]"),
        (Repeat(DIGIT, 2, 5), "[0-9]{2,5}"),
        (Repeat(DIGIT, 1200), "[0-9]{1000} [0-9]{200,}"),
        (Repeat(DIGIT, 1, 1500), "([0-9]{1,999} | [0-9]{1000} [0-9]{0,500})"),
    ],
)
def test_symbols_are_written_in_gbnf(symbol, written):
    assert gbnf([(symbol,)], {}) == f"root ::= {written}\n"
