/**
 * What a plugin in JavaScript needs, whatever its kind. Nothing in here has to be changed.
 *
 * `plugin.js` exports `plugin(about, calls)` under the name of its kind (`ranker`, `metaJudge` …): one call per function of
 * the kind's interface in `wit/`, names and fields in camelCase. A call that throws a `Refusal` says what is wrong with what
 * it was given. Any other exception is a fault of the plugin: its stack goes to the host's log and the call fails with it.
 */
import { write } from "metareward:plugin/log@0.1.0";

/** Writes a line to the host's log; levels are error, warn, info and debug. */
export function say(line, level = "info") {
  write(level, String(line));
}

/** Thrown where a call cannot be answered. `item` is the index in the batch of what is wrong. */
export class Refusal {
  constructor(message, item = null) {
    this.message = message;
    this.item = item;
  }
}

/** Thrown by `check` where an option makes no sense. */
export class BadOption {
  constructor(key, message) {
    this.key = key;
    this.message = message;
  }
}

/**
 * What the component exports. `about` is kind, name, version, summary and options: by name, each a JSON schema with at
 * least `type`, `default` and `description`. In the calls, `this.options` holds all options. A call named `check` is not
 * exported; it may refuse options that the schema cannot.
 */
export function plugin({ kind, name, version, summary, options }, { check, ...calls }) {
  const self = { ...calls, options: {} };
  const optionsSchema = JSON.stringify({ type: "object", properties: options, additionalProperties: false });
  const exported = {
    describe: () => ({ kind, name, version, summary, optionsSchema }),
    configure: logged((text) => {
      self.options = JSON.parse(text);
      check?.call(self);
    }),
  };
  for (const [call, answer] of Object.entries(calls)) {
    exported[call] = logged(answer.bind(self));
  }
  return exported;
}

function logged(call) {
  return (...given) => {
    try {
      return call(...given);
    } catch (error) {
      if (error instanceof Error) {
        for (const line of `${error.stack ?? ""}${error.name}: ${error.message}`.split("\n")) {
          say(line, "error");
        }
      }
      throw error;
    }
  };
}
