"""The tokens of arithmetic in prose: numbers, operators, units, words."""

import re

CJK = r"\u4e00-\u9fff\u3400-\u4dbf"
TOKENS = re.compile(
    rf"""
      (?P<bullet>(?:^|(?<=\n))[ \t]*(?:[-*+•][ ]|\#+[ ]|\d+[.)、]\s|\(\d+\))|(?:步骤|第|[Ss]tep)\s*\d+\s*步?[:.、,])
    | (?P<cut>\d+\.\d+(?:\.{{3,}}|…+)%?)
    | (?P<number>(?:\d{{1,3}}(?:,\d{{3}})+(?:,\d{{1,3}}(?:,\d{{3}})*)*(?!\d|,\d)|\d+)(?:\.\d+)?
        (?:[ ]?[万亿](?:\d+(?:\.\d+)?万)?(?![{CJK}]*分之))?(?:\s?%)*|\.\d+)
    | (?P<times>[xX](?=\s*[\d(.$¥]))
    | (?P<per>/[ ]?(?:[A-Za-z]{{2,}}|[{CJK}]{{1,4}})(?![\w(]))
    | (?P<rest>\s*(?:[,，]\s*(?=余))?(?:…+|\.{{3,}}|余数?(?:是|为)?|remainder|[rR](?=\s*\d))\s*(?=[\d$¥]))
    | (?P<note>\([ ]*(?:[{CJK}A-Za-z²³/]+)[ ]*\))
    | (?P<op>\*\*|[-+×÷*/^·²³])
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<sign>=+(?!>)|≈)
    | (?P<short>(?<=\d)[ ]?(?:[mgLlhs]|[mcdk]m|kg|ml|mL)(?:/(?:h|s|min|kg))?(?:\^[23]|[²³])?(?![\w(]))
    | (?P<word>[{CJK}]+(?:/[{CJK}]+)?|[A-Za-z][A-Za-z'’]+(?:/[A-Za-z]+)?(?:\^\d|[²³])?(?![\w(]))
    | (?P<symbol>\\?[A-Za-z_\u0391-\u03c9]\w*|[√∞{{}}|!∑∫°])
    | (?P<ratio>(?<=\d):(?=\d))
    | (?P<blank>[ \t\u3000\u00a0$¥£€]+)
    | (?P<other>.|\n)
    """,
    re.VERBOSE,
)
