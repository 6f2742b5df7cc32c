"""Words inside cells: which level of a treatment is the reference, and which answer of an outcome counts as one."""

import unicodedata
from collections.abc import Iterable, Sequence

_NO = {
    "0", "no", "n", "false", "f", "off", "いいえ", "なし", "無し", "無", "否", "非", "×", "nein", "falsch", "não",
    "non",
}  # fmt: skip
_YES = {"1", "yes", "y", "true", "t", "on", "はい", "あり", "有り", "有", "可", "○", "〇", "ja", "wahr", "sim", "oui"}
_CONTROL = {
    "control", "ctrl", "controls", "control group", "untreated", "not treated", "placebo", "none", "nothing",
    "standard", "standard care", "usual care", "baseline", "reference", "comparison", "unexposed", "not exposed",
    "holdout", "hold out", "never", "without", "old", "status quo", "not enrolled", "対照", "対照群", "コントロール",
    "コントロール群", "統制", "統制群", "非介入", "非介入群", "未処置", "非処置", "未実施", "プラセボ", "偽薬",
    "従来", "現行", "既存", "kontrolle", "kontrollgruppe", "unbehandelt", "ohne", "placebogruppe", "kein", "keine",
    "vergleichsgruppe",
}  # fmt: skip
_TREATED = {
    "treatment", "treated", "treat", "treatment group", "intervention", "exposed", "test",
    "test group", "experimental", "experiment", "enrolled", "処置", "処置群", "介入", "介入群", "治療群",
    "実験群", "テスト群", "実施", "behandlung", "behandelt", "behandlungsgruppe", "versuchsgruppe",
    "testgruppe", "intervention group",
}  # fmt: skip
_BAD = {
    "survived", "alive", "not readmitted", "unchanged", "failed", "fail", "lost", "absent", "negative", "stayed",
    "生存", "不合格", "失敗", "継続", "陰性", "nicht bestanden", "negativ", "überlebt",
}  # fmt: skip
_GOOD = {
    "died", "dead", "readmitted", "changed", "passed", "pass", "won", "success", "present", "positive", "left",
    "churned", "死亡", "合格", "成功", "解約", "陽性", "bestanden", "positiv", "verstorben", "erfolg",
}  # fmt: skip
_NO_PREFIXES = ("no ", "not ", "non-", "non ", "without ", "kein ", "keine ", "ohne ", "nicht ", "un-")
_NO_ENDINGS = ("なし", "無し", "しない", "していない", "未実施", "対象外")


def fold(level: object) -> str:
    """Return a level without differences of case, width, spaces and underscores."""
    text = unicodedata.normalize("NFKC", str(level)).casefold().replace("_", " ")
    return " ".join(text.split())


def _negated(word: str) -> bool:
    return word.startswith(_NO_PREFIXES) or word.endswith(_NO_ENDINGS)


def reference_of(levels: Sequence[str]) -> str | None:
    """Return the one level whose word says that it is the untreated arm, or None if none or several do."""
    folded = {level: fold(level) for level in levels}
    for speaks in (lambda word: word in _CONTROL, lambda word: word in _NO, _negated):
        found = [level for level, word in folded.items() if speaks(word)]
        if found:
            return found[0] if len(found) == 1 else None
    if len(levels) == 2:  # one is named as treated, so the other is not
        others = [level for level, word in folded.items() if word not in (_TREATED | _YES) - {"1"}]
        return others[0] if len(others) == 1 else None
    return None


def arms_evidence(levels: Iterable[str]) -> tuple[float, str]:
    """Return how strongly the values alone speak for a treatment, 0 to 0.5, and the reason in words."""
    words = [fold(level) for level in levels]
    if any(word in _CONTROL for word in words) and len(words) > 1:
        return 0.5, f"its values read like arms ({', '.join(words[:4])})"
    for word in words:
        if word.startswith(_NO_PREFIXES):
            rest = set(word.split()[1:])
            if any(rest & set(other.split()) for other in words if other != word):
                return 0.35, f"its values read like arms ({', '.join(words[:4])})"
    if sum(word in _YES or word in _NO for word in words) == 2 == len(words):
        return 0.03, "" if {"0", "1"} == set(words) else "its values are yes and no"
    return 0.0, ""


def one_of(levels: Sequence[str]) -> tuple[str | None, bool]:
    """Return which of at most two outcome levels counts as 1, and whether the words themselves say so."""
    folded = {level: fold(level) for level in levels}
    ones = [level for level, word in folded.items() if word in _YES | _GOOD]
    zeros = [level for level, word in folded.items() if word in _NO | _BAD | _CONTROL or _negated(word)]
    if len(levels) == 1:
        return (ones[0] if ones else None), bool(ones or zeros)
    if len(ones) == 1:
        return ones[0], True
    if len(zeros) == 1:
        return next(level for level in levels if level not in zeros), True
    return sorted(levels)[-1], False


def matches(level: str, stated: object) -> bool:
    """Whether a stated arm means this level; YAML's `no` and `yes` arrive as False and True."""
    if isinstance(stated, bool):
        return fold(level) in ((_YES | {"true"}) if stated else (_NO | {"false"}))
    if isinstance(stated, float) and stated.is_integer():
        stated = int(stated)
    return fold(level) == fold(stated)
