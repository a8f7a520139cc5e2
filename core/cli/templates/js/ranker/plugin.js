/** Net wins: how much more a player won than lost, a tie being nothing. */
import { remarks, wins } from "./battles.js";
import { plugin } from "./metareward.js";

const options = {
  points: { type: "number", default: 1.0, exclusiveMinimum: 0, description: "Points for a win, taken from the loser." },
};

export const ranker = plugin(
  { kind: "ranker", name: "{{name}}", version: "0.1.0", summary: "net wins", options },
  {
    promises() {
      return { ignoresOrder: true, mirrorsRatings: true, likelihood: null };
    },

    rate(problems) {
      return problems.map((problem, item) => {
        const matrix = wins(problem, item);
        const won = (player) => matrix[player].reduce((sum, weight) => sum + weight, 0);
        const lost = (player) => matrix.reduce((sum, row) => sum + row[player], 0);
        const ratings = matrix.map((_, player) => this.options.points * (won(player) - lost(player)));
        return { ratings, converged: true, steps: 1, remarks: remarks(matrix) };
      });
    },
  },
);
