"""The style sheet of the page, for light and dark screens, and the policy under which browsers show the page."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --card: #ffffff; --line: #e2e5ea; --text: #1c2330; --soft: #667085;
  --accent: #2457d6; --good: #147d4a; --bad: #c02626; --warn: #9a5b00; --warn-ground: #fff6e0;
  --s0: #2457d6; --s1: #0e9384; --s2: #c4602b; --s3: #8b46c9; --s4: #c72c6b; --s5: #5a7d1f;
  --s6: #b58900; --s7: #8a94a6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #10141b; --card: #181e28; --line: #2a3240; --text: #e6e9ef; --soft: #97a1b3;
    --accent: #7aa2ff; --good: #4cc38a; --bad: #ff7b72; --warn: #f0b429; --warn-ground: #2b2410;
    --s0: #6e97ff; --s1: #3cc8b4; --s2: #f0935c; --s3: #b98cf0; --s4: #f272a4; --s5: #9fcb5a;
    --s6: #e0b93b; --s7: #7f8aa0;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 40px; }
header { display: flex; flex-wrap: wrap; gap: 4px 16px; align-items: baseline; margin-bottom: 16px; }
h1 { font-size: 22px; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 15px; margin: 0 0 12px; font-weight: 600; }
header p { margin: 0; color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-bottom: 16px; }
.figure, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px; }
.figure b { display: block; font-size: 26px; font-weight: 650; line-height: 1.2; font-variant-numeric: tabular-nums; }
.figure span { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 16px; }
.wide { grid-column: 1 / -1; }
section { min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--soft); padding: 0 12px 6px 0; white-space: nowrap; }
td { padding: 6px 12px 6px 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); }
.empty, .more, footer { color: var(--soft); margin: 8px 0 0; }
.problems { background: var(--warn-ground); border: 1px solid var(--warn); border-radius: 10px; padding: 12px 16px;
  margin: 0 0 16px; list-style: none; }
.problems li { color: var(--warn); overflow-wrap: anywhere; }
.chart { display: block; width: 100%; height: auto; }
.grid { stroke: var(--line); stroke-width: 1; }
.axis { fill: var(--soft); font-size: 12px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 10px 0 0; padding: 0; }
.legend b { margin-left: 8px; font-weight: 500; color: var(--soft); font-variant-numeric: tabular-nums; }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
.bar { display: block; width: 100%; min-width: 80px; height: 8px; }
.rail { fill: var(--line); } .fill { fill: var(--accent); } .high { fill: var(--bad); }
.series { fill-opacity: 0.85; }
.s0 { fill: var(--s0); background: var(--s0); } .s1 { fill: var(--s1); background: var(--s1); }
.s2 { fill: var(--s2); background: var(--s2); } .s3 { fill: var(--s3); background: var(--s3); }
.s4 { fill: var(--s4); background: var(--s4); } .s5 { fill: var(--s5); background: var(--s5); }
.s6 { fill: var(--s6); background: var(--s6); } .s7 { fill: var(--s7); background: var(--s7); }
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: this style sheet, and nothing else, from nowhere."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
