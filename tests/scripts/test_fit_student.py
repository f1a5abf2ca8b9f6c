"""The fit's command line, before LightningCLI reads it."""

import pytest

from scripts.fit_student import main


def test_a_missing_first_word_is_named_with_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--data.labels", "runs/x/labels"])
    assert ended.value.code == 2
    assert "the first word must be 'fit'" in capsys.readouterr().err


def test_help_teaches_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "python -m scripts.fit_student fit --config conf/student/default.yaml" in capsys.readouterr().out
