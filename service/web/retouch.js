// The page: importing a panel sets it up; then the server is asked what it has.

import "./enlarge.js";
import "./fill.js";
import "./open.js";
import "./shortcuts.js";
import { learn } from "./offer.js";
import { resume } from "./work.js";

await learn();
document.body.dataset.ready = "true";
await resume();
