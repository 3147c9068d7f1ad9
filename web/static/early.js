// Runs before the page is painted: what is only there for browsers without JavaScript hides.
document.documentElement.classList.add("js");
