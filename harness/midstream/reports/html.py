"""index.html: one page to read, the damage first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from midstream.reports import Record, Report, RunInfo, Unfinished

DETAILS = 200  # failing cases shown in full; the rest is in results.json

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>midstream report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 :root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
 body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
 h1 { margin-bottom: 0; } .sub { color: #777; margin-top: 0; }
 table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
 th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
 th { position: sticky; top: 0; background: Canvas; }
 .v { display: inline-block; border-radius: .3rem; padding: 0 .45rem; margin: 0 .2rem .1rem 0;
      font-size: .85em; white-space: nowrap; }
 .v.ok { background: #2a7d3c2e; } .v.should { background: #c9a2003d; } .v.must { background: #c62b2b3d; }
 .v.harness { background: #7a3fc43d; } .v.open { background: #8883; }
 code, pre { font: .85em/1.45 ui-monospace, monospace; } pre { white-space: pre-wrap; margin: .2rem 0; }
 .card { border-left: .3rem solid #c62b2b; padding: .2rem .9rem; margin: 1rem 0; }
 .card.harness { border-color: #7a3fc4; background: none; }
 .card.should { border-color: #c9a200; background: none; }
 details { margin: 1rem 0; }
</style></head><body>
<h1>midstream</h1>
<p class="sub">version {{ info.version }} · seed {{ info.seed }} · {{ count }} cases</p>
<p>{% for v, n in summary %}<span class="v {{ kinds[v] }}">{{ v }} {{ n }}</span>{% endfor %}</p>
<table><thead><tr><th>driver</th><th>store</th><th>injector</th><th>verdicts</th></tr></thead><tbody>
{% for c, verdicts in totals %}<tr><td>{{ c[0] }}</td><td>{{ c[1] }}</td><td>{{ c[2] }}</td><td>
{% for v, n in verdicts %}<span class="v {{ kinds[v] }}">{{ v }} {{ n }}</span>{% endfor %}</td></tr>
{% endfor %}
</tbody></table>
{% if failures %}<h2>What is wrong</h2>{% endif %}
{% for f in failures %}
<div class="card {{ f.level }}"><b>{{ f.verdict }}</b> · {{ f.scenario }}
{% if f.variant %}<code>{{ f.variant }}</code>{% endif %}
 · {{ f.driver }} on {{ f.store }} through {{ f.injector }}{% if f.note %} · {{ f.note }}{% endif %}
<pre>{{ f.diagnosis }}</pre>
<p>{{ f.requirement }} <a href="{{ f.href }}">evidence</a></p>
<pre>{{ f.replay }}</pre></div>
{% endfor %}
{% if hidden %}<p>{{ hidden }} more failing cases are in results.json.</p>{% endif %}
<h2>Every scenario</h2>
<table><thead><tr><th>scenario</th>
{% for c in columns %}<th>{{ c[0] }}<br><small>{{ c[1] }} · {{ c[2] }}</small></th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr>
<td><b>{{ row.id }}</b> <small>{{ row.kind }} · {{ row.properties }}</small><br>
<small>{{ row.requirement }}</small></td>
{% for cell in row.cells %}<td>{% for v, n in cell %}
<span class="v {{ kinds[v] }}">{{ v }}{% if n > 1 %} {{ n }}{% endif %}</span>{% endfor %}</td>{% endfor %}
</tr>{% endfor %}</tbody></table>
{% if info.calibration %}<h2>How exact the injectors are here</h2>
<table><thead><tr>{% for cell in info.calibration[0] %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in info.calibration[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table><p class="sub">{{ info.calibrated }}</p>{% endif %}
<details><summary>What the verdicts mean</summary><table>
{% for v, text in meanings %}
<tr><td><span class="v {{ kinds[v] }}">{{ v }}</span></td><td>{{ text }}</td></tr>{% endfor %}
</table></details>
</body></html>
"""


class Html(Report):
    """A matrix of scenarios against drivers and stores; everything off the wire is escaped."""

    id: ClassVar[str] = "html"
    summary: ClassVar[str] = "index.html: the failures with their replay lines, then the whole matrix"

    def begin(self, info: RunInfo) -> None:
        self._info = info
        self._file = Unfinished(info.out / "index.html")
        self._cells: dict[str, dict[tuple[str, str, str], Counter[str]]] = {}
        self._rows: dict[str, dict[str, Any]] = {}
        self._columns: dict[tuple[str, str, str], None] = {}
        self._failures: list[dict[str, Any]] = []
        self._hidden = 0

    def case(self, record: Record, evidence: Callable[[], Record]) -> None:
        column = (record["driver"], record["store"], record["injector"])
        self._columns[column] = None
        cells = self._cells.setdefault(record["scenario"], {})
        cells.setdefault(column, Counter())[record["verdict"]] += 1
        if record["scenario"] not in self._rows:
            self._rows[record["scenario"]] = {
                "id": record["scenario"],
                "kind": record["kind"],
                "properties": " ".join(record["properties"]),
                "requirement": evidence()["requirement"],
            }
        if record["level"] or not record["expected"]:
            if len(self._failures) < DETAILS:
                requirement = self._rows[record["scenario"]]["requirement"]
                # A relative path: file names hold = and %, which a link must escape.
                href = quote(record["evidence"])
                self._failures.append({**record, "requirement": requirement, "href": href})
            else:
                self._hidden += 1

    def end(self, summary: Mapping[str, int]) -> None:
        from jinja2 import Environment

        from midstream._verdict import ALWAYS_MUST, FINE, MEANING, Verdict

        kinds = {v.value: "ok" if v in FINE else "must" if v in ALWAYS_MUST else "should" for v in Verdict}
        kinds[Verdict.HARNESS_ERROR.value] = "harness"
        for open_ended in (Verdict.OBSERVED, Verdict.NOT_APPLICABLE, Verdict.NOT_REACHED):
            kinds[open_ended.value] = "open"
        for broken in (Verdict.UNSAFE, Verdict.NEEDLESS_FAILURE, Verdict.RETRY_STORM):
            kinds[broken.value] = "must"
        rows = [
            {**row, "cells": [sorted(self._cells[name].get(c, Counter()).items()) for c in self._columns]}
            for name, row in sorted(self._rows.items())
        ]
        none: Counter[str] = Counter()
        totals = [
            (c, sum((cells.get(c, none) for cells in self._cells.values()), none)) for c in self._columns
        ]
        order = {"harness": 0, "must": 1, "should": 2, "observe": 3, "": 4}
        page = Environment(autoescape=True).from_string(_PAGE)
        text = page.render(
            info=self._info,
            count=sum(summary.values()),
            summary=sorted(summary.items()),
            kinds=kinds,
            failures=sorted(self._failures, key=lambda f: order[f["level"]]),
            hidden=self._hidden,
            columns=list(self._columns),
            totals=[(column, sorted(counts.items())) for column, counts in totals],
            rows=rows,
            meanings=[(v.value, t) for v, t in MEANING.items()],
        )
        self._file.write(text)
        self._file.finish()

    def discard(self) -> None:
        if hasattr(self, "_file"):
            self._file.discard()


MEMBER = Html
