// Asks for this very page until the server gives it. Apache says why it does not.
const WHY = {
  off: "Jupyter is switched off on this machine, or is just being installed anew.",
  settings: "Jupyter cannot be started with its settings as they are.",
  crash: "Jupyter ends while it starts. It is tried again and again.",
};
// What was sent by a form is not sent again.
history.replaceState(history.state, "", location.href);
async function look() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", redirect: "manual" });
    if (![502, 503, 504].includes(answer.status)) return location.reload();
    const why = WHY[answer.headers.get("Jupyter-Remote-State")];
    if (why) document.getElementById("state").textContent = why;
  } catch {
    // the network is away too
  }
  setTimeout(look, 1500);
}
look();
