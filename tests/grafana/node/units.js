// The ids of all units that Grafana knows, as a list of JSON.
const { getValueFormats } = require("./browser.js");

const ids = getValueFormats().flatMap(({ submenu }) => submenu.map(({ value }) => value));
process.stdout.write(JSON.stringify(ids));
