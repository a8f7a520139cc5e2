"""The battles of one problem: checked, summed per pair of players, and what a reader should know of them."""

import math

from metareward import refusal, types


def wins(problem, item):
    """Weight of the wins of each player over each other one, row against column, a tie being half a win for either.

    `item` is the problem's index in the batch, for the refusal of battles that make no sense.
    """
    matrix = [[0.0] * problem.players for _ in range(problem.players)]
    for index, battle in enumerate(problem.battles):
        weights = (battle.left_wins, battle.right_wins, battle.ties)
        if max(battle.left, battle.right) >= problem.players or battle.left == battle.right:
            raise refusal(f"battle {index} is between players {battle.left} and {battle.right} of {problem.players}", item)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
            raise refusal(f"battle {index} has the weights {weights}; expected numbers from 0", item)
        matrix[battle.left][battle.right] += battle.left_wins + battle.ties / 2
        matrix[battle.right][battle.left] += battle.right_wins + battle.ties / 2
    return matrix


def remarks(matrix):
    """Who never lost, who never won, and whether the players fall into groups that never met."""
    players = range(len(matrix))
    met = [[other for other in players if matrix[one][other] + matrix[other][one] > 0] for one in players]
    if not any(met):
        return [types.Remark_NoBattles()]
    won = [any(weight > 0 for weight in row) for row in matrix]
    lost = [any(row[one] > 0 for row in matrix) for one in players]
    undefeated = [one for one in players if won[one] and not lost[one]]
    winless = [one for one in players if lost[one] and not won[one]]
    groups = _groups(met)
    said = [types.Remark_Undefeated(undefeated)] if undefeated else []
    said += [types.Remark_Winless(winless)] if winless else []
    return said + ([types.Remark_Disconnected(groups)] if groups > 1 else [])


def _groups(met):
    """Number of groups of players without battles between them."""
    seen, groups = set(), 0
    for start in range(len(met)):
        groups += start not in seen
        open_ = [start]
        while open_:
            one = open_.pop()
            if one not in seen:
                seen.add(one)
                open_.extend(met[one])
    return groups
