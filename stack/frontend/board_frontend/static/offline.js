// Looks again until the board is back. Without scripts the "Try again" link does the same by hand.
const page = document.getElementById("offline");
page.querySelector("[role=status]").hidden = false;
setInterval(async () => {
  const answer = await fetch("/health/db", { cache: "no-store" }).catch(() => null);
  if (answer?.ok) location.replace(page.dataset.again);
}, 5000);
