// Grafana's library with what it looks for in a browser: a scene (there is none), and the languages.
globalThis.navigator ??= { languages: ["en"] }; // Node has one since 21
module.exports = require("@grafana/data"); // without a window: else it takes itself to be in a browser
globalThis.window = {};
