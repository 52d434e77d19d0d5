"""docs/settings.md is what the declarations say."""

from experiments import config as configuration
from experiments.settings_page import PAGE, page


def test_the_page_is_not_stale():
    assert PAGE.read_text() == page(), "run: python -m experiments.settings_page"


def test_it_has_every_setting():
    text = page()
    for agent in ("trqam", "qam_edit", "ifql"):
        for key, setting in configuration.declared(agent).items():
            assert f"| `{key}` |" in text
            assert setting.help in text
