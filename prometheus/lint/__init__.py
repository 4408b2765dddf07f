"""Rules held against what is known to go wrong with rules, without a Prometheus."""

from prometheus.lint.checks import CHECKS, Problem, problems
from prometheus.lint.load import Rule, rules_in

__all__ = ["CHECKS", "Problem", "Rule", "problems", "rules_in"]
