import { render } from "preact";
import { app } from "./state/app";
import { connect } from "./state/session";
import { applyTheme, firstTheme } from "./state/view";
import { listenForKeys } from "./ui/keyboard";
import { Page } from "./ui/page";
import { hasWebGl } from "./viewer/webgl";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/viewer.css";
import "./styles/side.css";

applyTheme(firstTheme());
app.set({ webgl: hasWebGl() });
listenForKeys();
const root = document.getElementById("app");
if (root) render(<Page />, root);
void connect();
