(() => {
  "use strict";
  const root = document.documentElement;
  const find = (selector) => document.querySelector(selector);
  const cards = Array.from(document.querySelectorAll("#records .card"));
  const selects = Array.from(document.querySelectorAll("#choose select"));
  const search = find("#search");

  const speak = (language) => {
    root.dataset.ui = language;
    root.lang = language;
    const chinese = language === "zh";
    find("#language").textContent = chinese ? "English" : "中文";
    document.querySelectorAll("[data-zh]").forEach((element) => {
      if (element.dataset.en === undefined) element.dataset.en = element.textContent;
      element.textContent = chinese ? element.dataset.zh : element.dataset.en;
    });
    if (search) search.placeholder = chinese ? search.dataset.placeholderZh : search.dataset.placeholderEn;
  };

  // spans in both languages are chosen by the style; options cannot hold spans, so their text is exchanged
  find("#language").hidden = false;
  find("#language").addEventListener("click", () => speak(root.dataset.ui === "zh" ? "en" : "zh"));
  speak((navigator.language || "").startsWith("zh") ? "zh" : "en");

  const choose = () => {
    const words = search.value.trim().toLowerCase();
    let count = 0;
    for (const card of cards) {
      const fits = selects.every((select) => !select.value || card.dataset[select.name] === select.value);
      card.hidden = !(fits && (!words || card.textContent.toLowerCase().includes(words)));
      count += card.hidden ? 0 : 1;
    }
    find("#shown").textContent = String(count);
    find("#nothing").hidden = count > 0;
  };
  if (cards.length) {
    find("#choose").hidden = false;
    selects.forEach((select) => select.addEventListener("change", choose));
    search.addEventListener("input", choose);
    choose();
  }

  const move = (by) => {
    const shown = cards.filter((card) => !card.hidden);
    const at = shown.indexOf(document.activeElement && document.activeElement.closest(".card"));
    const next = shown[Math.min(Math.max(at < 0 && by < 0 ? 0 : at + by, 0), shown.length - 1)];
    if (next) {
      next.focus();
      next.scrollIntoView({ block: "start" });
    }
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "Escape" && event.target === search) {
      search.value = "";
      choose();
    } else if (!typing && cards.length && event.key === "/") {
      event.preventDefault();
      search.focus();
    } else if (!typing && (event.key === "j" || event.key === "k")) {
      move(event.key === "j" ? 1 : -1);
    }
  });

  // a link to examples opens them
  const open = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const fold = target && target.closest("details");
    if (fold) {
      fold.open = true;
      target.scrollIntoView({ block: "start" });
    }
  };
  window.addEventListener("hashchange", open);
  open();
})();
