"""Dashboards held against what is known to go wrong with dashboards, without a Grafana."""

from grafana.lint.checks import CHECKS, Problem, problems

__all__ = ["CHECKS", "Problem", "problems"]
