/* Tells why nothing happens where the page was opened as a file: browsers refuse such a page its modules. */

if (location.protocol === "file:")
  document.querySelector("#about").textContent =
    "Browsers do not run this page from a file. Type “python -m http.server” in its folder, then open " +
    "http://localhost:8000";
