/* What tests and scripts/site_parity.py evaluate in a page: afterwards `fromPixels` and `fromFile`
 * answer there, by the page's own engine, without its face. */
async () => {
    const engine = await import(new URL('engine.js', location).href);
    const bytes = async name => new Uint8Array(await (await fetch(name)).arrayBuffer());
    const json = async name => (await fetch(name)).json();
    const ort = await import(new URL('lib/ort.js', location).href);
    const wasmBinary = (await bytes('lib/ort.wasm')).buffer;
    Object.assign(ort.env.wasm, {numThreads: 1, wasmBinary});
    const [card, facts] = [await json('card.json'), await json('facts.json')];
    const seen = card.seen ? await bytes('seen.bin') : null;
    const predictor = await engine.Predictor.load(await bytes('model.onnx'), card, ort, facts, seen);
    const decoded = text => {
        const letters = atob(text), found = new Uint8Array(letters.length);
        for (let i = 0; i < letters.length; i++) found[i] = letters.charCodeAt(i);
        return found;
    };
    const summary = ({p_melanoma, probs, decisions, conformal, warnings, cam, width, height, error, trained_on}) => (error
        ? {error, kind: 'refused', warnings, width, height, trained_on} : {
        p_melanoma, probs, conformal, warnings, cam: Array.from(cam), width, height, trained_on,
        called: decisions.map(point => point.called)});
    window.fingerprintsOf = ({data, width, height}) => engine.fingerprints(
        {data: decoded(data), width, height}).map(way => Array.from(way));
    window.fromPixels = async ({data, width, height}) => summary(
        await predictor.run(engine.picture(decoded(data), width, height)));
    window.fromFile = async data => {
        const file = decoded(data), began = performance.now();
        try {
            const answer = await predictor.predict(file);
            return {...summary(answer), seconds: (performance.now() - began)/1000};
        }
        catch (error) { return {error: error.message, kind: error.constructor.name}; }
    };
}
