import { useEffect, useLayoutEffect, useRef, useState, type RefObject } from 'react';

/** Calls *tick* every *interval* ("10s"; empty is never), and not while nobody looks at the page. */
export function useInterval(tick: () => void, seconds: number): void {
  const latest = useRef(tick);
  latest.current = tick;
  useEffect(() => {
    if (seconds <= 0) {
      return undefined;
    }
    const timer = window.setInterval(() => {
      if (!document.hidden) {
        latest.current();
      }
    }, seconds * 1000);
    return () => window.clearInterval(timer);
  }, [seconds]);
}

export interface Room {
  width: number;
  height: number;
}

// Below a panel that fills the page.
const MARGIN = 16;

/** An element's width, and the height of the window under its top; no width until it is known. */
export function useRoom<T extends HTMLElement>(): [RefObject<T>, Room] {
  const ref = useRef<T>(null);
  const [room, setRoom] = useState<Room>({ width: 0, height: 0 });
  // Before the first paint: what is on the page depends on it.
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) {
      return undefined;
    }
    const measure = () => {
      const width = Math.floor(element.clientWidth);
      const height = Math.floor(window.innerHeight - (element.getBoundingClientRect().top + window.scrollY) - MARGIN);
      setRoom((before) => (before.width === width && before.height === height ? before : { width, height }));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    window.addEventListener('resize', measure);
    return () => {
      observer.disconnect();
      window.removeEventListener('resize', measure);
    };
  }, []);
  return [ref, room];
}

/** Calls *close* when Escape is pressed, or when something outside of the element is pressed or gets the focus. */
export function useClosing(ref: RefObject<HTMLElement>, open: boolean, close: (byKey: boolean) => void): void {
  const latest = useRef(close);
  latest.current = close;
  useEffect(() => {
    if (!open) {
      return undefined;
    }
    const onKey = (event: KeyboardEvent) => {
      if (event.key === 'Escape') {
        event.stopPropagation();
        latest.current(true);
      }
    };
    const onOther = (event: Event) => {
      if (event.target instanceof Node && !ref.current?.contains(event.target)) {
        latest.current(false);
      }
    };
    document.addEventListener('keydown', onKey);
    document.addEventListener('pointerdown', onOther);
    document.addEventListener('focusin', onOther);
    return () => {
      document.removeEventListener('keydown', onKey);
      document.removeEventListener('pointerdown', onOther);
      document.removeEventListener('focusin', onOther);
    };
  }, [open, ref]);
}
