// What is wider than the page scrolls by itself: let a keyboard reach it, and only then.
const wide = "pre, .cell_output, .math-wrapper, .table-wrapper, div.math";
const mark = () => {
  for (const one of document.querySelectorAll(wide))
    if (one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight) one.tabIndex = 0;
    else one.removeAttribute("tabindex");
};
// Roles that the theme and docutils leave half said.
const roles = () => {
  for (const one of document.querySelectorAll("[role=heading]:not([aria-level])"))
    one.setAttribute("aria-level", "2");
  for (const one of document.querySelectorAll("[role=doc-biblioentry]")) one.role = "listitem";
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "The book");
};
addEventListener("DOMContentLoaded", () => (roles(), mark()));
addEventListener("load", mark);
addEventListener("resize", mark);
