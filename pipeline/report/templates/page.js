const dialog = document.querySelector("dialog");
for (const link of document.querySelectorAll("a.opens"))
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const group = document.querySelector(link.hash).cloneNode(true);
    dialog.querySelector("div").replaceChildren(...group.childNodes);
    dialog.showModal();
  });
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => (each.open = true)));
