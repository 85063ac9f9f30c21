/* The page in somebody else's frame: disclaimer, texts and messages, and what the page's own frame
 * does by scripts. `frame.py` puts the scripts in the place of the comment below. */
function start() {
  /* scripts */
}

/* A widget is made before it stands on the page, and the scripts look for what is there. */
function whenShown(element, act) {
  if (element.isConnected) act();
  else requestAnimationFrame(() => whenShown(element, act));
}

function render({model, el}) {
  el.innerHTML = model.get('html');
  whenShown(el, () => {
    if (!window.melanoma) start();
    window.melanoma.speak(window.melanoma.language);
  });
}

export default {render};
