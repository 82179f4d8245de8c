from __future__ import annotations

from swarmplane.exposition import family, render


def test_labels_help_and_numbers_are_escaped_as_prometheus_wants() -> None:
    text = render(
        [
            family("a_total", "counter", 'What "it"\\is\nabout.', [({"model": 'a"b\\c\nd'}, 2.0)]),
            family("b", "gauge", "Half.", 0.5),
            family("c", "gauge", "None now.", []),
        ]
    )
    assert text == (
        '# HELP a_total What "it"\\\\is\\nabout.\n'
        "# TYPE a_total counter\n"
        'a_total{model="a\\"b\\\\c\\nd"} 2\n'
        "# HELP b Half.\n"
        "# TYPE b gauge\n"
        "b 0.5\n"
        "# HELP c None now.\n"
        "# TYPE c gauge\n"
    )
