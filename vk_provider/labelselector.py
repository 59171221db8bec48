"""metav1.LabelSelector (apimachinery pkg/apis/meta/v1 LabelSelectorAsSelector). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from vk_provider.jsontypes import Json


def matches_selector(selector: Json | None, labels: Mapping[str, str]) -> bool:
    """None matches nothing, an empty selector everything; a requirement that cannot be read matches nothing."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_matches_expression(expression, labels) for expression in selector.get("matchExpressions") or [])


def _matches_expression(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key") or "", expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False
