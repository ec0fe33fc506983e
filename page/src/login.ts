// Log-in: what a link showed is shown after it, too; without this script the form works as well.

const form = document.querySelector("form")!;
form.addEventListener("submit", () => {
  // a redirect keeps what is behind the # of the address that it comes from
  if (location.hash.includes("=")) form.action = `/login${location.hash}`;
});
