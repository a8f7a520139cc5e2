/** The battles of one problem: checked, summed per pair of players, and what a reader should know of them. */
import { Refusal } from "./metareward.js";

/**
 * Weight of the wins of each player over each other one, row against column, a tie being half a win for either. `item` is
 * the problem's index in the batch, for the refusal of battles that make no sense.
 */
export function wins({ players, battles }, item) {
  const matrix = Array.from({ length: players }, () => new Array(players).fill(0));
  for (const [index, { left, right, leftWins, rightWins, ties }] of battles.entries()) {
    if (left === right || Math.max(left, right) >= players) {
      throw new Refusal(`battle ${index} is between players ${left} and ${right} of ${players}`, item);
    }
    if (![leftWins, rightWins, ties].every((weight) => Number.isFinite(weight) && weight >= 0)) {
      throw new Refusal(`battle ${index} has the weights ${leftWins}, ${rightWins}, ${ties}; expected numbers from 0`, item);
    }
    matrix[left][right] += leftWins + ties / 2;
    matrix[right][left] += rightWins + ties / 2;
  }
  return matrix;
}

/** Who never lost, who never won, and whether the players fall into groups that never met. */
export function remarks(matrix) {
  const players = [...matrix.keys()];
  const won = (one) => matrix[one].some((weight) => weight > 0);
  const lost = (one) => matrix.some((row) => row[one] > 0);
  if (!players.some(won)) return [{ tag: "no-battles" }];
  const said = [];
  const undefeated = players.filter((one) => won(one) && !lost(one));
  if (undefeated.length) said.push({ tag: "undefeated", val: undefeated });
  const winless = players.filter((one) => lost(one) && !won(one));
  if (winless.length) said.push({ tag: "winless", val: winless });
  const groups = countGroups(players, (one, other) => matrix[one][other] + matrix[other][one] > 0);
  if (groups > 1) said.push({ tag: "disconnected", val: groups });
  return said;
}

/** Number of groups of players without battles between them. */
function countGroups(players, met) {
  const seen = new Set();
  let groups = 0;
  for (const start of players) {
    if (seen.has(start)) continue;
    groups += 1;
    const open = [start];
    while (open.length) {
      const one = open.pop();
      if (seen.has(one)) continue;
      seen.add(one);
      open.push(...players.filter((other) => met(one, other)));
    }
  }
  return groups;
}
