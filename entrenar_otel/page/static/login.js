"use strict";(()=>{var o=document.querySelector("form");o.addEventListener("submit",()=>{location.hash.includes("=")&&(o.action=`/login${location.hash}`)});})();
